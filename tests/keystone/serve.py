"""Serves Keystone's WSGI application: `serve.py PORT`, on 127.0.0.1. Its configuration is named by OS_KEYSTONE_CONFIG_FILES."""

import sys

# Keystone reads the arguments itself, and knows none of ours.
port = int(sys.argv[1])
sys.argv = sys.argv[:1]

from keystone.wsgi.api import application  # noqa: E402
from waitress import serve  # noqa: E402

serve(application, host="127.0.0.1", port=port, threads=4)
