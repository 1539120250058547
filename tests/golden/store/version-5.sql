-- A store as version 5 of its schema had it: two users, one with a token, and a program of two
-- versions that is shared.
PRAGMA application_id=1903323746;
PRAGMA user_version=5;
BEGIN TRANSACTION;
CREATE TABLE answers (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            verb TEXT NOT NULL,
            signature TEXT NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID;
CREATE TABLE audit (
            number INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            user TEXT NOT NULL,
            action TEXT NOT NULL,
            object TEXT NOT NULL,
            status INTEGER NOT NULL,
            address TEXT NOT NULL
        );
INSERT INTO "audit" VALUES(1,1.79615074863389134404e+09,'alice','POST /v1/programs','',201,'127.0.0.1');
CREATE TABLE bundles (digest TEXT PRIMARY KEY, content BLOB NOT NULL);
INSERT INTO "bundles" VALUES('c882fbcb6a072469a5851f651b6213e5c60ea1179a8714f9e68d154fb69651bc',X'78016590BB0A023110457F45528B20888560A1166261A1824F44E23AEE0E2693350F45C47F3713169F65EE24E7DCC95D1C5181139DDA5D94D6E456EA46798B47B11ECEF568D82CE4A2655678CDF7B3537B80BD7C34E8DFD6CB6933D3AD7C3C315DF1A8D784968447703E71F6323B011D7616CE012D68209F047CF1002EB3587A34C41211A338B6C9F8E18F3192078B3A525C50094041291E38A36405A822851ADF0E921A180E59615850CAB815441AB7A85EFC747BA53E58DA5DA40AE94F38E6D6FF445F7C199098BDD93E9ED0E76ED2');
INSERT INTO "bundles" VALUES('c80dbbff58a4d15ca576bcc93a42c5cc556b6d44406820dd0fbaf89e8124c45e',X'78016590CB6AC33010457F25681D0A069345218B360BE345372D346D4A318A3391074B23578F9660F2EFD108935797BA239D7347A3D8A3062F1E67A3189C554E9A87E1908E6253BD9BBA2A3AB92EED27FEA9ED5BBF58E193AA57CF87CDC76BD19A52BD28BB14C7F94C1849B8071F32672BDB1E68D738F889E8C000852CE08B3BF0ADC321A025968814A5B1CBC62B7F8A9102383489E2A3CE008A5AF3C05B2D27C014693478719034C070683BCB8241A6AD20D1B8C5F4E2AEDB390DD151F32B75CC7FC231B7FE4F0CDD8D0189D95FDFC713E85D6EE8');
CREATE TABLE events (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            kind TEXT NOT NULL,
            seq INTEGER,
            time REAL,
            content BLOB NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID;
CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            program TEXT NOT NULL,
            process TEXT NOT NULL,
            created REAL NOT NULL,
            started REAL,
            finished REAL,
            status TEXT NOT NULL,
            outcome TEXT,
            image TEXT,
            cancel INTEGER NOT NULL DEFAULT 0,
            bytes INTEGER NOT NULL,
            bundle TEXT REFERENCES bundles (digest),
            request TEXT NOT NULL,
            inputs BLOB NOT NULL,
            record TEXT,
            result BLOB
        , replay_of TEXT, user TEXT NOT NULL DEFAULT '', program_id TEXT NOT NULL DEFAULT '', session TEXT NOT NULL DEFAULT '', key TEXT NOT NULL DEFAULT '');
CREATE TABLE programs (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            name TEXT NOT NULL,
            public INTEGER NOT NULL DEFAULT 0,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            UNIQUE (owner, name)
        );
INSERT INTO "programs" VALUES(1,'echo-0123456789','alice','echo',0,1.79615074863343906399e+09,1.79615074863374900816e+09);
CREATE TABLE shares (
            program INTEGER NOT NULL REFERENCES programs (number) ON DELETE CASCADE,
            user TEXT NOT NULL,
            PRIMARY KEY (program, user)
        ) WITHOUT ROWID;
INSERT INTO "shares" VALUES(1,'bob');
CREATE TABLE tags (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            tag TEXT NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID;
CREATE TABLE tokens (
            digest TEXT PRIMARY KEY,
            user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
            created REAL NOT NULL,
            expires REAL,
            revoked REAL
        ) WITHOUT ROWID;
INSERT INTO "tokens" VALUES('5ed97bfc7a62d22362e9b0f21dcc12304cd41d13da2c93558a5f4fba940c29b0','alice',1.79615074863217258458e+09,NULL,NULL);
CREATE TABLE users (
            name TEXT PRIMARY KEY,
            role TEXT NOT NULL,
            created REAL NOT NULL,
            disabled REAL
        ) WITHOUT ROWID;
INSERT INTO "users" VALUES('alice','user',1.79615074863211250308e+09,NULL);
INSERT INTO "users" VALUES('bob','operator',1.79615074863215780256e+09,NULL);
CREATE TABLE versions (
            program INTEGER NOT NULL REFERENCES programs (number) ON DELETE CASCADE,
            version INTEGER NOT NULL,
            created REAL NOT NULL,
            bytes INTEGER NOT NULL,
            bundle TEXT NOT NULL REFERENCES bundles (digest),
            PRIMARY KEY (program, version)
        ) WITHOUT ROWID;
INSERT INTO "versions" VALUES(1,1,1.79615074863350939748e+09,208,'c882fbcb6a072469a5851f651b6213e5c60ea1179a8714f9e68d154fb69651bc');
INSERT INTO "versions" VALUES(1,2,1.79615074863378429417e+09,213,'c80dbbff58a4d15ca576bcc93a42c5cc556b6d44406820dd0fbaf89e8124c45e');
CREATE INDEX jobs_unfinished ON jobs (process) WHERE outcome IS NULL;
CREATE INDEX jobs_by_end ON jobs (finished, bytes);
CREATE INDEX jobs_by_bundle ON jobs (bundle);
CREATE INDEX jobs_by_start ON jobs (created);
CREATE INDEX jobs_by_user ON jobs (user, created);
CREATE INDEX jobs_by_key ON jobs (user, key) WHERE key != '';
CREATE INDEX jobs_pending ON jobs (user) WHERE outcome IS NULL;
CREATE INDEX jobs_by_user_end ON jobs (user, finished);
CREATE INDEX tokens_by_user ON tokens (user);
CREATE INDEX versions_by_bundle ON versions (bundle);
COMMIT;
