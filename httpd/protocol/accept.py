"""Content negotiation (RFC 9110 section 12.5.1)."""

from __future__ import annotations

from httpd.protocol.grammar import ACCEPT, MEDIA_RANGE, PARAMETER, WEIGHT


def prefers(accept: str | None, offers: tuple[str, ...]) -> str:
    """Return the offer, of media types without parameters, that the Accept field likes best.

    The first of equals wins, and the first of all where the field is absent or malformed or
    accepts none of them: an answer in the wrong type is better than none (RFC 9110 12.4.1).
    """
    weights = _weights(accept) if accept else {}
    # max() returns the first of equals.
    return max(offers, key=lambda offer: _weight_of(offer, weights))


def _weights(accept: str) -> dict[str, float]:
    """Return the weight of each media range in lower case; none at all if one is malformed.

    Parameters other than q are passed over: no offer has any to tell ranges apart by.
    """
    if ACCEPT.fullmatch(accept) is None:
        return {}
    weights: dict[str, float] = {}
    for member in MEDIA_RANGE.finditer(accept):
        media_range, parameters = member[1].lower(), member[2]
        weight = "1"
        for parameter in PARAMETER.finditer(parameters):
            if parameter[1].lower() == "q":
                weight = parameter[2]
        if WEIGHT.fullmatch(weight) is None:
            return {}
        weights[media_range] = max(float(weight), weights.get(media_range, 0.0))
    return weights


def _weight_of(offer: str, weights: dict[str, float]) -> float:
    """Return the weight of the most specific range that covers the offer, 0 if none does."""
    kind = offer.partition("/")[0]
    ranges = (offer, f"{kind}/*", "*/*")
    return next((weights[covering] for covering in ranges if covering in weights), 0.0)
