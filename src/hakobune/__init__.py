"""Hakobune: a folder of source code in, a running web service out, on a machine you own."""

__version__ = "0.1.0"
