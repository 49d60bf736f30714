"""What a group of routes is made of: `Door`, the models, the settings, and what else a handler may ask.

A group is a module with ``routes(door) -> list[BaseRoute]``; `scgpt_infer.server.front.app` puts them together.
"""

from dataclasses import dataclass, field

from scgpt_infer.server.desk import Desk
from scgpt_infer.server.front.tables import Tables
from scgpt_infer.server.settings import Settings

__all__ = ["Door"]


@dataclass(frozen=True, slots=True)
class Door:
    """What routes are made of.

    Attributes
    ----------
    desk
        The models.
    settings
        Of the server.
    tables
        Gene tables of the models.
    """

    desk: Desk
    settings: Settings
    tables: Tables = field(default_factory=Tables)
