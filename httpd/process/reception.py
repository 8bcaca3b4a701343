"""Who speaks with a master: the commands, and the masters before and after it."""

from __future__ import annotations

from collections.abc import Iterator

from httpd.process.claim import Claim
from httpd.process.crew import signal_when_readable
from httpd.process.orders import Conversation, Message
from httpd.process.renewal import NOBODY


class Reception:
    """Every conversation that is open, and what each of them is about."""

    def __init__(self, claim: Claim, asker: int = NOBODY) -> None:
        """Take where orders come in. `asker`: the descriptor of whoever waits for an answer."""
        self._claim = claim
        self._visitors: list[Conversation] = []
        self.asker: Conversation | None = None  # waits to be told how the reload went
        self.heir: Conversation | None = None  # another master, which is about to take over
        if asker != NOBODY:
            self.asker = Conversation.found(asker)
            self._visitors.append(self.asker)

    def open(self) -> None:
        """Let a signal come when somebody speaks.

        Of one open file (open(2)) a single process can be told, and with a heir it is shared.
        """
        claim = self._claim
        sources = [each.fileno() for each in claim.predecessors]
        if claim.orders and claim.ours:
            sources.append(claim.orders.fileno())
        for source in sources:
            signal_when_readable(source)

    def hear(self) -> Iterator[tuple[Conversation, Message | None]]:
        """Return what is said, and by whom; None where that one has left, and is closed."""
        claim = self._claim
        if claim.orders and claim.ours:
            for visitor in claim.orders.accept():
                signal_when_readable(visitor.fileno())
                self._visitors.append(visitor)
        for speaker in [*self._visitors, *claim.predecessors]:
            try:
                while speaker.fileno() != NOBODY and (said := speaker.hear()) is not None:
                    yield speaker, said
            except EOFError:
                self._forget(speaker)
                yield speaker, None

    def answer(self, message: Message) -> None:
        """Tell whoever waits for an answer, if anybody still does."""
        if self.asker:
            self.asker.tell(message)
            self._forget(self.asker)

    def hand_over(self, heir: Conversation, message: Message) -> None:
        """Let a master that is being started have what this one holds; both hold it for a while.

        Whom this one has succeeded itself is among that: so it need not stay for their sake.
        """
        claim = self._claim
        assert claim.orders is not None
        held = [claim.pidfile.fileno(), claim.orders.fileno()]
        held += [predecessor.fileno() for predecessor in claim.predecessors]
        held += [listener.fileno() for listener in claim.listeners]
        self.heir = heir
        heir.tell({**message, "predecessors": len(claim.predecessors)}, held)

    def let_go(self) -> None:
        """Close this process's copies in a worker, which speaks with nobody."""
        for visitor in self._visitors:
            visitor.close()

    def _forget(self, speaker: Conversation) -> None:
        speaker.close()
        if speaker in self._visitors:
            self._visitors.remove(speaker)
        if speaker is self.asker:
            self.asker = None
