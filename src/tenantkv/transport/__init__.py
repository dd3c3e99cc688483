"""The shell around redis-py: connections, pools and clients that carry a namespace."""
