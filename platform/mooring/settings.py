"""All settings, from the environment only. docs/operate.md holds the table of our names."""

from __future__ import annotations

import warnings
from pathlib import Path
from urllib.parse import urlsplit

from django.templatetags.static import static

from mooring import environment as env
from mooring.installation import Installation
from mooring.logs import logging_config

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent.parent
# A checkout has manage.py beside templates/; an installed wheel carries both inside the package.
ASSETS = ROOT if (ROOT / "manage.py").exists() else PACKAGE

# ---- where and who ---------------------------------------------------------------------------------------
PORT = env.number("PORT", 8000)
DATA_DIR = env.data_directory("MOORING_DATA_DIR")
ORIGIN = (env.text("MOORING_URL") or f"http://localhost:{PORT}").rstrip("/")
EMBEDDED = not env.secret("DATABASE_URL")
INSTALLATION = Installation(DATA_DIR, embedded=EMBEDDED)

DEBUG = False
SECRET_KEY = INSTALLATION.secret("MOORING_SECRET_KEY")
KEY_PEPPER = INSTALLATION.secret("MOORING_KEY_PEPPER")
# Key-encryption keys for secrets at rest, newest first, as `id:base64` pairs separated by commas.
ENCRYPTION_KEYS = INSTALLATION.keyring("MOORING_ENCRYPTION_KEYS")
HOSTS = frozenset(
    env.words("MOORING_HOSTS")
    or {urlsplit(ORIGIN).netloc} | ({f"localhost:{PORT}", f"127.0.0.1:{PORT}"} if EMBEDDED else set())
)
ALLOWED_HOSTS = sorted({urlsplit(f"//{host}").hostname or host for host in HOSTS})
CSRF_TRUSTED_ORIGINS = [ORIGIN]
SECURE = ORIGIN.startswith("https://")
TRUSTED_PROXIES = env.number("MOORING_TRUSTED_PROXIES", 0)

# ---- applications ----------------------------------------------------------------------------------------
INSTALLED_APPS = [
    # Basic: unfold would otherwise import the admin at start and put itself in its place.
    "unfold.apps.BasicAppConfig",
    # SimpleAdminConfig: the admin's modules are imported on the first visit to /admin/, not at start.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "channels",
    "mooring.audit",
    "mooring.accounts",
    "mooring.jobs",
    "tenants",
    "servers",
    "mooring.health",
    "mooring.api",
    "mooring.dashboard",
]
MIDDLEWARE = [
    "mooring.dashboard.middleware.RequestIdMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "mooring.dashboard.middleware.ErrorPageMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "mooring.urls"
ASGI_APPLICATION = "mooring.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ASSETS / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "mooring.dashboard.context.dashboard",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS.append("django.forms")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEST_RUNNER = "django.test.runner.DiscoverRunner"

# ---- database --------------------------------------------------------------------------------------------
# Three roles (DESIGN: two walls): `default` is the app's role, behind row-level security; `system` crosses
# tenants (change poll, shipper, staff); `owner` migrates. SQLite has one wall and one connection for all three.
_SQLITE = {
    "ENGINE": "django_prometheus.db.backends.sqlite3",
    "NAME": DATA_DIR / "mooring.sqlite3",
    "CONN_MAX_AGE": 60,
    "OPTIONS": {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    },
}
_POSTGRES = env.postgres("DATABASE_URL")
DATABASES: dict[str, dict[str, object]] = {"default": _POSTGRES or _SQLITE}
SYSTEM_DATABASE = OWNER_DATABASE = "default"
if _POSTGRES:
    DATABASES["system"] = env.postgres("DATABASE_SYSTEM_URL") or _POSTGRES
    DATABASES["owner"] = env.postgres("DATABASE_OWNER_URL") or _POSTGRES
    SYSTEM_DATABASE, OWNER_DATABASE = "system", "owner"
DATABASE_ROUTERS = ["mooring.scope.ScopeRouter"]

# ---- bus, cache, background work -------------------------------------------------------------------------
REDIS_URL = env.secret("REDIS_URL")
CHANNEL_LAYERS = {
    "default": (
        {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}
CACHES = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    )
}
SESSION_ENGINE = "django.contrib.sessions.backends.db"
CELERY_BROKER_URL = REDIS_URL or "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"visibility_timeout": 3600}
    if REDIS_URL
    else {name: str(DATA_DIR / "broker") for name in ("data_folder_in", "data_folder_out")}
    | {"control_folder": str(DATA_DIR / "broker-control")}
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")

# ---- people ----------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
ACCOUNT_ADAPTER = "mooring.accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if SECURE else "http"
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/app/"

EMAIL_HOST = env.text("MOORING_SMTP_HOST")
EMAIL_PORT = env.number("MOORING_SMTP_PORT", 587)
EMAIL_HOST_USER = env.text("MOORING_SMTP_USER")
EMAIL_HOST_PASSWORD = env.secret("MOORING_SMTP_PASSWORD")
EMAIL_USE_TLS = env.flag("MOORING_SMTP_TLS", True)
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = (
    "django.core.mail.backends.smtp.EmailBackend" if EMAIL_HOST else "mooring.accounts.mail.DevelopmentInbox"
)
DEFAULT_FROM_EMAIL = env.text("MOORING_MAIL_FROM") or "Mooring <mooring@localhost>"

# WhiteNoise hands out files as plain iterators, which Django remarks upon under ASGI; they are small.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")

# ---- browser ---------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [ASSETS / "static"]
WHITENOISE_USE_FINDERS = EMBEDDED
# WhiteNoise warns when STATIC_ROOT is missing; the embedded set-up serves straight from the sources.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if EMBEDDED
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_SSL_REDIRECT = SECURE and env.flag("MOORING_SSL_REDIRECT", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 17 * 1024 * 1024  # the largest manifest, and the form around it
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000  # one for each operation of a large API that is imported

# ---- staff -----------------------------------------------------------------------------------------------
UNFOLD = {
    "SITE_TITLE": "Mooring staff",
    "SITE_HEADER": "Mooring staff",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("img/logo.svg")}
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
}

# ---- language --------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# ---- REST API --------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["mooring.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "mooring.api.pages.CursorPages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "mooring.api.errors.answer",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Mooring",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    # Fields called kind and state have other values in one thing than in the next.
    "ENUM_NAME_OVERRIDES": {
        "HealthStateEnum": "mooring.api.health_serializers.STATES",
        "UpstreamKindEnum": "mooring.api.health_serializers.KINDS",
        "KeyStateEnum": ["active", "expired", "revoked"],
        "SwitchKindEnum": ["disable", "mock", "fault"],
    },
}

# ---- the data plane --------------------------------------------------------------------------------------
EGRESS_ALLOW = env.words("MOORING_EGRESS_ALLOW")
# Where the dashboard's playground reaches the data plane; another process in production.
GATEWAY_URL = (env.text("MOORING_GATEWAY_URL") or f"http://127.0.0.1:{PORT}").rstrip("/")
JOURNAL_DIR = Path(env.text("MOORING_JOURNAL_DIR") or DATA_DIR / "journal")
# Where the runner of uploaded code has its socket.
RUNNER_DIR = Path(env.text("MOORING_RUNNER_DIR") or DATA_DIR / "runner").resolve()
CALLS_KEPT_DAYS = env.number("MOORING_CALLS_KEPT_DAYS", 30, least=1)
METRICS_TOKEN = env.secret("MOORING_METRICS_TOKEN")
DRAIN_SECONDS = env.number("MOORING_DRAIN", 0 if EMBEDDED else 5)
SENTRY_DSN = env.secret("SENTRY_DSN")
LOG_LEVEL = env.text("MOORING_LOG_LEVEL", "INFO").upper()
LOGGING = logging_config(LOG_LEVEL)
PROMETHEUS_EXPORT_MIGRATIONS = False
