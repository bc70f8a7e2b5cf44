"""The readers of fields, by the name that this dialect's modules know them by."""

from ownstudio.dialects.fields import (
    NESTING_MAX as NESTING_MAX,
)
from ownstudio.dialects.fields import (
    Fields as Fields,
)
from ownstudio.dialects.fields import (
    boolean as boolean,
)
from ownstudio.dialects.fields import (
    integer as integer,
)
from ownstudio.dialects.fields import (
    integer_within as integer_within,
)
from ownstudio.dialects.fields import (
    number as number,
)
from ownstudio.dialects.fields import (
    read_object as read_object,
)
from ownstudio.dialects.fields import (
    text as text,
)
