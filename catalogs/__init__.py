"""Catalogues: event tables and local source look-ups."""
