"""One file per step; each stands alone and is never changed once it was released."""
