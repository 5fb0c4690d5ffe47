"""Our colours: dark, light, and one for who needs contrast. Nothing is told by them alone."""

from __future__ import annotations

from textual.app import App
from textual.theme import Theme

DARK = Theme(
    name="dark",
    primary="#7aa2d6",
    secondary="#8b95a7",
    accent="#7fd1c7",
    success="#86c08b",
    warning="#e0b36a",
    error="#e5827f",
    foreground="#d5dae3",
    background="#12161d",
    surface="#1a2029",
    panel="#222a35",
    dark=True,
    variables={
        "border": "#7aa2d6",
        "border-blurred": "#323c4b",
        "footer-background": "#1a2029",
        "footer-key-foreground": "#7fd1c7",
        "success-muted": "#1c2b25",
        "warning-muted": "#352b1b",
        "error-muted": "#3a2125",
        "primary-muted": "#1d2838",
        "text-muted": "#8b95a7",
        "scrollbar": "#323c4b",
        "scrollbar-hover": "#8b95a7",
        "scrollbar-active": "#8b95a7",
        "scrollbar-background": "#12161d",
        "scrollbar-background-hover": "#12161d",
        "scrollbar-background-active": "#12161d",
        "scrollbar-corner-color": "#12161d",
    },
)
LIGHT = Theme(
    name="light",
    primary="#2b62a8",
    secondary="#5b6472",
    accent="#0b7268",
    success="#2c6e35",
    warning="#8a5600",
    error="#b3312e",
    foreground="#20262e",
    background="#f7f8fa",
    surface="#eceff3",
    panel="#e1e5eb",
    dark=False,
    variables={
        "border": "#2b62a8",
        "border-blurred": "#c3cad4",
        "footer-background": "#eceff3",
        "footer-key-foreground": "#0b7268",
        "success-muted": "#dcefdf",
        "warning-muted": "#f8e8c8",
        "error-muted": "#f8dedc",
        "primary-muted": "#dbe7f6",
        "text-muted": "#5b6472",
        "scrollbar": "#c3cad4",
        "scrollbar-hover": "#5b6472",
        "scrollbar-active": "#5b6472",
        "scrollbar-background": "#f7f8fa",
        "scrollbar-background-hover": "#f7f8fa",
        "scrollbar-background-active": "#f7f8fa",
        "scrollbar-corner-color": "#f7f8fa",
    },
)
CONTRAST = Theme(
    name="contrast",
    primary="#6cc8ff",
    secondary="#ffffff",
    accent="#ffff00",
    success="#00ff66",
    warning="#ffcc00",
    error="#ff8080",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    dark=True,
    text_alpha=1.0,
    variables={
        "border": "#ffff00",
        "border-blurred": "#ffffff",
        "footer-background": "#000000",
        "footer-key-foreground": "#ffff00",
        "footer-description-foreground": "#ffffff",
        "success-muted": "#000000",
        "warning-muted": "#000000",
        "error-muted": "#000000",
        "primary-muted": "#000000",
        "text-muted": "#ffffff",
        "scrollbar": "#ffffff",
        "scrollbar-hover": "#ffff00",
        "scrollbar-active": "#ffff00",
        "scrollbar-background": "#000000",
        "scrollbar-background-hover": "#000000",
        "scrollbar-background-active": "#000000",
        "scrollbar-corner-color": "#000000",
    },
)
THEMES = (DARK, LIGHT, CONTRAST)
"""In the order in which they are gone through."""


def register(app: App[str]) -> None:
    """Make them known, and take the first. Which one was taken last is kept nowhere: nothing here writes a file."""
    for theme in THEMES:
        app.register_theme(theme)
    app.theme = THEMES[0].name


def following(name: str) -> str:
    """The one after this one."""
    names = [theme.name for theme in THEMES]
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]
