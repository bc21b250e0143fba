"""How a peer is started: the command line that all of them have. Imports nothing heavy."""

import argparse

WAIT_SECONDS = 0.02  # that a request may wait for others, where requests are put together


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", required=True, help="of the checkpoint")
    parser.add_argument("--batch", type=int, default=1, help="requests per call at the most")
    return parser.parse_args()
