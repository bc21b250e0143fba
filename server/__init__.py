"""The server: everything a request meets, and never torch.

Six verbs, one direction: `to_draft` (dialects), `resolve` (intake), `take` (backlog),
`paint` (models), `encode` (pictures), `render` (dialects). `jobs/service.py` joins them.
"""
