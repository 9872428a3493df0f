"""Small apps whose answers tests change."""

from __future__ import annotations

# What it answers is `one`.
FLASK = 'from flask import Flask\n\napp = Flask(__name__)\n\n\n@app.get("/")\ndef index():\n    return "one\\n"\n'
# Of the standard library alone; `{text}` is the answer.
SERVER = """\
import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{text}")


HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
