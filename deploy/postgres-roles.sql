-- The three roles Mooring connects as. Run once, as a superuser, in the empty database Mooring will use:
--
--     psql -v owner_password=… -v app_password=… -v system_password=… -f deploy/postgres-roles.sql mooring
--
-- Running it again is harmless and sets the passwords anew. Needs psql 15 or newer. As an init script of the
-- PostgreSQL image it takes the passwords from MOORING_OWNER_PASSWORD, MOORING_APP_PASSWORD and
-- MOORING_SYSTEM_PASSWORD.
--
--   mooring_owner         owns the tables and migrates                       DATABASE_OWNER_URL
--   mooring_app_login     serves requests, behind row-level security         DATABASE_URL
--   mooring_system_login  crosses tenants: change poll, call log, beat       DATABASE_SYSTEM_URL
--
-- None of them is a superuser or may bypass row-level security.

\set ON_ERROR_STOP on
\getenv owner_password MOORING_OWNER_PASSWORD
\getenv app_password MOORING_APP_PASSWORD
\getenv system_password MOORING_SYSTEM_PASSWORD

-- The groups to which tables and policies are granted.
SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM unnest(ARRAY['mooring_app', 'mooring_system']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

-- Those who log in, each a member of one group. The owner is one too, since policies bind it as well.
SELECT format('CREATE ROLE %I LOGIN IN ROLE %I', name, its_group)
FROM (VALUES
    ('mooring_owner', 'mooring_system'),
    ('mooring_app_login', 'mooring_app'),
    ('mooring_system_login', 'mooring_system')
) AS logins (name, its_group)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

ALTER ROLE mooring_owner PASSWORD :'owner_password';
ALTER ROLE mooring_app_login PASSWORD :'app_password';
ALTER ROLE mooring_system_login PASSWORD :'system_password';

-- A request that takes this long has lost its reader; an idle transaction holds locks for nobody.
ALTER ROLE mooring_app_login SET statement_timeout = '30s';
ALTER ROLE mooring_app_login SET idle_in_transaction_session_timeout = '60s';

ALTER DATABASE :"DBNAME" OWNER TO mooring_owner;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO mooring_app, mooring_system;
ALTER SCHEMA public OWNER TO mooring_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
