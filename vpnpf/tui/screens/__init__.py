"""Whole screens: they only wire panels."""
