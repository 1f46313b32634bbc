from .atoms import atom_curves as atom_curves
from .atoms import atom_figure as atom_figure
from .atoms import atom_tiles as atom_tiles
from .atoms import patch_shape as patch_shape
from .figures import (
    Curve as Curve,
)
from .figures import (
    before_after as before_after,
)
from .figures import (
    curves as curves,
)
from .figures import (
    save_figure as save_figure,
)
from .figures import (
    sheet as sheet,
)
from .page import (
    Report as Report,
)
from .page import (
    Section as Section,
)
from .page import (
    Table as Table,
)
