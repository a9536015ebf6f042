# Run once by PostgreSQL's image, when it makes its files: the bridge has a user and a database of its own, with Synapse's password.
psql -v ON_ERROR_STOP=1 -v "password=$POSTGRES_PASSWORD" -U "$POSTGRES_USER" -d postgres <<'SQL'
CREATE USER postern PASSWORD :'password';
CREATE DATABASE postern OWNER postern;
SQL
