"""What every table of a bundle's JSON files has in common. Knows none of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Record(BaseModel):
    """An unknown key is kept, so that an older reader does not lose a newer one's facts."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
