"""Am I protected? The banner on top: a word for it, what it means, what goes on, and what to do."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel, styled
from vpnpf.tui.view import View


class Protection(Panel):
    """Whether the profile protects, and whether that is known at all."""

    DEFAULT_CSS = """
    Protection {
        height: auto; border: none; padding: 0; background: $surface;
        Horizontal { height: auto; }
        #word { width: auto; padding: 0 1; text-style: bold; background: $secondary; color: $background; }
        #means { padding: 0 1; text-style: bold; }
        #happening { padding: 0 1; }
        #whose { width: auto; padding: 0 1; color: $text-muted; }
        #hint { padding: 0 1; display: none; }
        #hint.-said { display: block; }
        &.-good { background: $success-muted; #word { background: $success; } }
        &.-busy { background: $primary-muted; #word { background: $primary; } }
        &.-warn { background: $warning-muted; #word { background: $warning; } }
        &.-bad { background: $error-muted; #word { background: $error; } }
    }
    """

    def compose(self) -> ComposeResult:
        """Two lines, and one for what to do if there is something."""
        with Horizontal():
            yield Line(id="word")
            yield Line(id="means")
        with Horizontal():
            yield Line(id="happening")
            yield Line(id="whose")
        yield Line(id="hint")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        standing, hint = words.standing(view), words.hint(view)
        self.mark(standing.level)
        self.query_one("#word", Line).say(f"{standing.sign} {standing.word}")
        self.query_one("#means", Line).say(standing.means)
        self.query_one("#happening", Line).say(words.happening(view))
        self.query_one("#whose", Line).say(words.whose(view))
        line = self.query_one("#hint", Line)
        line.set_class(bool(hint), "-said")
        line.say(styled(("What to do: ", "bold"), hint) if hint else "")
