"""Images that clients send or point at, up to their encoded bytes."""
