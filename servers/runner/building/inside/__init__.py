"""Programs that run inside a sandbox. Each needs Python's own library and its neighbours here, nothing of Mooring."""
