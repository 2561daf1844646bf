"""Staff's view over all tenants, at /admin/. It writes through the same services as everybody else."""
