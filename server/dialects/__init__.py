"""One file per HTTP API that limner speaks: wire shapes in, `Draft` out; results in, shapes out."""
