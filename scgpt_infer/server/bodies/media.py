"""Names of media in headers: which form a client wants (Accept), and which form its body has (Content-Type).

The rules are those of RFC 9110, sections 8.3 and 12.5.1.
"""

from collections.abc import Sequence

from scgpt_infer.server.refusals import NotAcceptable, UnsupportedMedia

__all__ = ["chosen", "kind_of"]

_HINT = "With curl: -H 'Content-Type: application/json'."


def kind_of(content_type: str, known: Sequence[str]) -> str:
    """The form of a body; the first one known where the client does not say.

    Raises
    ------
    UnsupportedMedia
        It is none of those known.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not kind:
        return known[0]
    if kind not in known:
        raise UnsupportedMedia(f"The body is {kind}; expected Content-Type {' or '.join(known)}.")
    return kind


def chosen(accept: str, offered: Sequence[str]) -> str:
    """The form that a client likes best; of equal ones the first that is offered.

    Raises
    ------
    NotAcceptable
        It takes none of them.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return offered[0]
    liked = {form: _liking(form, ranges) for form in offered}
    best = max(offered, key=lambda form: liked[form])
    if liked[best] == 0:
        raise NotAcceptable(f"The client accepts {accept}; this can be answered as {', '.join(offered)}.")
    return best


def _range(part: str) -> tuple[str, float]:
    name, *parameters = part.split(";")
    weights = [text.strip()[2:] for text in parameters if text.strip().lower().startswith("q=")]
    try:
        weight = float(weights[0]) if weights else 1.0
    except ValueError:
        weight = 1.0
    return name.strip().lower(), min(max(weight, 0.0), 1.0)


def _liking(form: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that a form is in."""
    group = form.split("/")[0]
    for wanted in (form, f"{group}/*", "*/*"):
        weights = [weight for name, weight in ranges if name == wanted]
        if weights:
            return max(weights)
    return 0.0
