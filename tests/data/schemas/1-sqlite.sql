BEGIN TRANSACTION;
CREATE TABLE app (
	name VARCHAR(128) NOT NULL,
	broker_id INTEGER,
	celery_app TEXT,
	pool TEXT,
	arguments TEXT,
	extra_config TEXT,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (name),
	FOREIGN KEY(broker_id) REFERENCES broker (id)
);
INSERT INTO "app" VALUES('foo',1,'proj.celery:app','threads','--a ''b c''','x=1',7696581394432,'b1',0);
CREATE TABLE broker (
	id INTEGER NOT NULL,
	url TEXT NOT NULL,
	digest VARCHAR(64),
	PRIMARY KEY (id),
	UNIQUE (digest)
);
INSERT INTO "broker" VALUES(1,'amqp://me:s%20cret@broker:5672//','09d3b214bfd23c27181414f710212940e5265d17419154ac07b799022ef5a326');
INSERT INTO "broker" VALUES(2,'redis://r/1','ab8f2e9a860120c3a351f8f4b4e3a02c50f197892765f53fa877867267167fd4');
CREATE TABLE cyme_meta (
	name VARCHAR(64) NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "cyme_meta" VALUES('schema','1');
CREATE TABLE instance (
	name VARCHAR(128) NOT NULL,
	app VARCHAR(128) NOT NULL,
	branch VARCHAR(128) NOT NULL,
	broker_id INTEGER,
	is_enabled BOOLEAN DEFAULT '1' NOT NULL,
	queues TEXT,
	max_concurrency INTEGER DEFAULT '1' NOT NULL,
	min_concurrency INTEGER DEFAULT '1' NOT NULL,
	generation INTEGER DEFAULT '0' NOT NULL,
	created_at DOUBLE DEFAULT '0' NOT NULL,
	celery_app TEXT,
	pool TEXT,
	arguments TEXT,
	extra_config TEXT,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (name),
	FOREIGN KEY(broker_id) REFERENCES broker (id)
);
INSERT INTO "instance" VALUES('w1','foo','b1',2,0,'["tâches, 1", "b"]',4,0,3,1234567.25,NULL,'solo','-x',NULL,9,'b2',0);
INSERT INTO "instance" VALUES('w2','foo','b1',NULL,1,'[]',1,1,0,0.0,NULL,NULL,NULL,NULL,10,'b1',1);
CREATE TABLE queue (
	app VARCHAR(128) NOT NULL,
	name VARCHAR(255) NOT NULL,
	exchange TEXT,
	exchange_type TEXT,
	routing_key TEXT,
	options TEXT,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (app, name)
);
INSERT INTO "queue" VALUES('foo','tâches, 1','e','topic','r.#','{"durable": true}',8,'b1',0);
CREATE INDEX ix_app_broker_id ON app (broker_id);
CREATE INDEX ix_instance_broker_id ON instance (broker_id);
CREATE INDEX ix_instance_app ON instance (app);
COMMIT;
