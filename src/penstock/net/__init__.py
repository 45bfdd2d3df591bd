"""Outgoing connections. One guard decides where they may lead."""
