"""Plug-ins for other libraries; each imports its library, and nobody else imports them."""
