"""Where things are kept: the data directory, the database in it, its schema and how it grew.

Only this package writes SQL, and only SQL that SQLite and PostgreSQL both speak. A noun of the schema has a module
of its own with all its statements. Times are whole Unix seconds.
"""
