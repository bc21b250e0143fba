"""From what a client wishes to what is painted: drafts, orders, the backlog, workers, the story."""
