"""A Django site on a shared server: cached pages, sessions and a counter through one setting.

tenantkv init
python manage.py check
python manage.py tenantkv status
python manage.py runserver
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    execute_from_command_line(sys.argv)
