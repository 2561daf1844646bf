"""The product's own settings, with what would only make tests slow or dependent on each other taken out."""

from mooring.settings import *  # noqa: F403  # all of them, but for the few below

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# All tests share one address and one cache; a test of a limit turns it on for itself.
ACCOUNT_RATE_LIMITS = False
# The manifest storage needs `collectstatic`, which only tests of real processes run.
WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"] = {  # noqa: F405  # comes with the star
    "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
}
