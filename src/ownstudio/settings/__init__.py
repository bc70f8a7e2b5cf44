"""What the operator decides: one frozen tree, from flags, environment, file and defaults, in that order.

`tree` declares every setting once: type, default, meaning, range, whether it is secret. Reading (`load`),
`ownstudio check`, the example file and the settings page (`documents`) all follow from that declaration.
Nothing here is a global: who needs a setting is given it.
"""

from ownstudio.settings.load import Loaded, load_settings
from ownstudio.settings.tree import (
    Admin,
    Billing,
    Cache,
    Deployment,
    Limits,
    Log,
    Server,
    Settings,
    SettingsError,
)

__all__ = [
    "Admin",
    "Billing",
    "Cache",
    "Deployment",
    "Limits",
    "Loaded",
    "Log",
    "Server",
    "Settings",
    "SettingsError",
    "load_settings",
]
