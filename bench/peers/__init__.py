"""Other ways to serve a diffusers pipeline, each as small and as good as its makers' pages show it.

All speak as much of OpenAI's images API as `limner bench load` needs, so that one load drives all.
"""
