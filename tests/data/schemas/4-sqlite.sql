BEGIN TRANSACTION;
CREATE TABLE app (
	name VARCHAR(128) NOT NULL,
	broker_id INTEGER,
	celery_app TEXT,
	pool TEXT,
	arguments TEXT,
	extra_config TEXT,
	max_memory BIGINT,
	max_age DOUBLE,
	stall_timeout DOUBLE,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (name),
	FOREIGN KEY(broker_id) REFERENCES broker (id)
);
INSERT INTO "app" VALUES('foo',1,'proj.celery:app','threads','--a ''b c''','x=1',3298534883328,86400.5,60.0,7696581394432,'b1',0);
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
INSERT INTO "cyme_meta" VALUES('schema','4');
CREATE TABLE deduplication (
	app VARCHAR(128) NOT NULL,
	digest VARCHAR(64) NOT NULL,
	task_id VARCHAR(36) NOT NULL,
	until DOUBLE NOT NULL,
	is_confirmed BOOLEAN NOT NULL,
	PRIMARY KEY (app, digest)
);
CREATE TABLE event (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	at DOUBLE NOT NULL,
	branch VARCHAR(128) NOT NULL,
	app VARCHAR(128),
	instance VARCHAR(128),
	kind VARCHAR(64) NOT NULL,
	who VARCHAR(64) NOT NULL,
	details TEXT NOT NULL
);
INSERT INTO "event" VALUES(1,1.0,'b1','foo','w1','started','supervisor','{"pid": 7}');
CREATE TABLE held_task (
	id VARCHAR(36) NOT NULL,
	branch VARCHAR(128) NOT NULL,
	app VARCHAR(128) NOT NULL,
	due_at DOUBLE NOT NULL,
	expires DOUBLE,
	task TEXT NOT NULL,
	priority INTEGER,
	queue TEXT NOT NULL,
	exchange TEXT NOT NULL,
	exchange_type TEXT NOT NULL,
	routing_key TEXT NOT NULL,
	options TEXT NOT NULL,
	size INTEGER NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "held_task" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','b1','foo',9000000000.0,NULL,'proj.add',NULL,'tâches, 1','e','topic','r','{}',2,'{}');
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
	drain_until DOUBLE,
	created_at DOUBLE DEFAULT '0' NOT NULL,
	celery_app TEXT,
	pool TEXT,
	arguments TEXT,
	extra_config TEXT,
	max_memory BIGINT,
	max_age DOUBLE,
	stall_timeout DOUBLE,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (name),
	FOREIGN KEY(broker_id) REFERENCES broker (id)
);
INSERT INTO "instance" VALUES('w1','foo','b1',2,0,'["tâches, 1", "b"]',4,0,3,1234600.5,1234567.25,NULL,'solo','-x',NULL,1,NULL,NULL,9,'b2',0);
INSERT INTO "instance" VALUES('w2','foo','b1',NULL,1,'[]',1,1,0,NULL,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,10,'b1',1);
CREATE TABLE queue (
	app VARCHAR(128) NOT NULL,
	name VARCHAR(255) NOT NULL,
	exchange TEXT,
	exchange_type TEXT,
	routing_key TEXT,
	options TEXT,
	paused BOOLEAN DEFAULT '0' NOT NULL,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (app, name)
);
INSERT INTO "queue" VALUES('foo','tâches, 1','e','topic','r.#','{"durable": true}',1,8,'b1',0);
CREATE TABLE result_source (
	digest VARCHAR(64) NOT NULL,
	url TEXT NOT NULL,
	until DOUBLE NOT NULL,
	PRIMARY KEY (digest)
);
INSERT INTO "result_source" VALUES('ab8f2e9a860120c3a351f8f4b4e3a02c50f197892765f53fa877867267167fd4','redis://r/1',10000000000.0);
CREATE TABLE rollout (
	app VARCHAR(128) NOT NULL,
	id VARCHAR(64) NOT NULL,
	branch VARCHAR(128) NOT NULL,
	parallel INTEGER NOT NULL,
	timeout DOUBLE NOT NULL,
	asked_by TEXT NOT NULL,
	asked_at DOUBLE NOT NULL,
	waiting TEXT NOT NULL,
	under_way TEXT NOT NULL,
	done TEXT NOT NULL,
	skipped TEXT NOT NULL,
	halted TEXT,
	ended_at DOUBLE,
	version_stamp BIGINT DEFAULT '0' NOT NULL,
	version_branch VARCHAR(128) DEFAULT '' NOT NULL,
	deleted BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (app)
);
INSERT INTO "rollout" VALUES('foo','9d5c','b1',2,30.5,'branch b1',1234567.5,'["w4", "w5"]','[["w2", 4, 1234568.25]]','["w1"]','[["w0", "it is désabled"]]','w2 is away',1234570.0,11,'b1',0);
CREATE TABLE task (
	id VARCHAR(36) NOT NULL,
	app VARCHAR(128) NOT NULL,
	queue VARCHAR(255) NOT NULL,
	state VARCHAR(16) NOT NULL,
	outcome TEXT,
	created_at DOUBLE NOT NULL,
	finished_at DOUBLE,
	expires_at DOUBLE NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO "task" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','foo','tâches, 1','SUCCESS','{"result": "ü", "error": null}',1.0,3.0,10000000000.0);
INSERT INTO "task" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','foo','tâches, 1','PENDING',NULL,2.0,NULL,10000000000.0);
CREATE INDEX ix_event_instance ON event (instance);
CREATE INDEX ix_task_expires_at ON task (expires_at);
CREATE INDEX ix_held_task_due ON held_task (branch, due_at, app);
CREATE INDEX ix_deduplication_until ON deduplication (until);
CREATE INDEX ix_app_broker_id ON app (broker_id);
CREATE INDEX ix_instance_app ON instance (app);
CREATE INDEX ix_instance_broker_id ON instance (broker_id);
COMMIT;
