"""What whoever runs the server wrote: read once, checked, and held against the files it names."""
