BEGIN TRANSACTION;
CREATE TABLE featurestore_leases (
	project TEXT NOT NULL, 
	"view" TEXT NOT NULL, 
	holder TEXT, 
	expires_us BIGINT NOT NULL, 
	PRIMARY KEY (project, "view"), 
	FOREIGN KEY(project) REFERENCES featurestore_projects (project)
);
INSERT INTO "featurestore_leases" VALUES('shop','spend','run-1',1767607230000000);
CREATE TABLE featurestore_log (
	id INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	revision BIGINT NOT NULL, 
	at_us BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	impact TEXT NOT NULL, 
	fields TEXT NOT NULL, 
	generation_before BIGINT, 
	generation_after BIGINT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project) REFERENCES featurestore_projects (project)
);
INSERT INTO "featurestore_log" VALUES(1,'shop',1,1767607200000000,'ann','create','entity','user','additive','[]',NULL,NULL);
INSERT INTO "featurestore_log" VALUES(2,'shop',1,1767607200000000,'ann','create','source','sales','additive','[]',NULL,NULL);
INSERT INTO "featurestore_log" VALUES(3,'shop',1,1767607200000000,'ann','create','feature view','spend','additive','[]',NULL,1);
CREATE TABLE featurestore_meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "featurestore_meta" VALUES('schema_version','1');
CREATE TABLE featurestore_objects (
	project TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	revision BIGINT NOT NULL, 
	generation BIGINT, 
	deleted BOOLEAN NOT NULL, 
	document TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	PRIMARY KEY (project, kind, name, version), 
	FOREIGN KEY(project) REFERENCES featurestore_projects (project)
);
INSERT INTO "featurestore_objects" VALUES('shop','entity','user',1,1,NULL,0,'{"name":"user","description":"","owner":"","tags":{},"join_keys":[["user_id","int64"]]}','cc3f59ee946c24acfa001e0aba643bde');
INSERT INTO "featurestore_objects" VALUES('shop','source','sales',1,1,NULL,0,'{"name":"sales","description":"","owner":"","tags":{},"path":"sales.parquet","timestamp_field":"at","created_timestamp_column":null,"timezone":"UTC","ambiguous":"error","missing":"error","field_mapping":{},"lateness":"0d"}','7ee9391d110841998d620ced15f7e9da');
INSERT INTO "featurestore_objects" VALUES('shop','feature view','spend',1,1,1,0,'{"name":"spend","description":"","owner":"","tags":{},"entities":["user"],"source":"sales","schema":[{"name":"amount","dtype":"float64","description":"","tags":{}}],"aggregations":[],"transform":null,"ttl":null,"online":true}','f320611f3e873c38d123873e0a0491d7');
CREATE TABLE featurestore_projects (
	project TEXT NOT NULL, 
	revision BIGINT NOT NULL, 
	created_us BIGINT NOT NULL, 
	PRIMARY KEY (project)
);
INSERT INTO "featurestore_projects" VALUES('shop',1,1767607200000000);
CREATE TABLE featurestore_runs (
	id INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	"view" TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	start_us BIGINT, 
	end_us BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	started_us BIGINT NOT NULL, 
	finished_us BIGINT NOT NULL, 
	rows_read BIGINT NOT NULL, 
	rows_written BIGINT NOT NULL, 
	rows_kept BIGINT NOT NULL, 
	rows_skipped BIGINT NOT NULL, 
	seconds FLOAT NOT NULL, 
	error TEXT, 
	file_count BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project) REFERENCES featurestore_projects (project)
);
INSERT INTO "featurestore_runs" VALUES(1,'shop','spend',1,'full',NULL,100,'succeeded',1767607200000000,1767607200000000,0,0,0,0,0.0,NULL,1);
CREATE TABLE featurestore_watermarks (
	project TEXT NOT NULL, 
	"view" TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	end_us BIGINT NOT NULL, 
	event_us BIGINT, 
	created_us BIGINT, 
	source_files TEXT NOT NULL, 
	updated_us BIGINT NOT NULL, 
	PRIMARY KEY (project, "view", generation), 
	FOREIGN KEY(project) REFERENCES featurestore_projects (project)
);
INSERT INTO "featurestore_watermarks" VALUES('shop','spend',1,100,90,NULL,'[["a.parquet",1,2]]',1767607200000000);
CREATE INDEX featurestore_log_by_project ON featurestore_log (project, id);
CREATE TRIGGER featurestore_log_keeps_update BEFORE update ON featurestore_log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER featurestore_log_keeps_delete BEFORE delete ON featurestore_log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE INDEX featurestore_runs_by_view ON featurestore_runs (project, "view", id);
COMMIT;
