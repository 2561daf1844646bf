"""The walls around one process: namespaces and mounts (bubblewrap), system calls (seccomp), resources (cgroups), a user
of its own.
"""
