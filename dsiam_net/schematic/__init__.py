"""Schematics of networks: wires between rows of boxes, the page, and the two parts on it."""

from .chain import Chain
from .frame import Frame
from .page import Page
from .routing import Box, Routes, Wire, route

__all__ = ["Box", "Chain", "Frame", "Page", "Routes", "Wire", "route"]
