BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE column_uses (
	id VARCHAR(32) NOT NULL, 
	base VARCHAR(128) NOT NULL, 
	space VARCHAR(8) NOT NULL, 
	start INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	holders INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (base, space, start, width)
);
CREATE TABLE "columns" (
	id VARCHAR(32) NOT NULL, 
	concept_id VARCHAR(32) NOT NULL, 
	base VARCHAR(128) NOT NULL, 
	space VARCHAR(8) NOT NULL, 
	start INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (concept_id, base, space), 
	FOREIGN KEY(concept_id) REFERENCES concepts (id) ON DELETE CASCADE
);
CREATE TABLE concepts (
	id VARCHAR(32) NOT NULL, 
	name VARCHAR(40) NOT NULL, 
	"key" VARCHAR(40) NOT NULL, 
	class_word VARCHAR(40) NOT NULL, 
	created DATETIME NOT NULL, removed DATETIME, owner VARCHAR(64) DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "concepts" VALUES('8cd48b5b9bab41b095110b1d4f9377d9','rex','rex','dog','2026-11-30 09:13:48.751068',NULL,'');
INSERT INTO "concepts" VALUES('a118c8d80cc244f3adf842ccade8a9b2','milo','milo','cat','2026-11-30 09:13:51.697697',NULL,'');
CREATE TABLE images (
	id VARCHAR(32) NOT NULL, 
	concept_id VARCHAR(32) NOT NULL, 
	position INTEGER NOT NULL, caption TEXT, masked BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (concept_id, position), 
	FOREIGN KEY(concept_id) REFERENCES concepts (id) ON DELETE CASCADE
);
INSERT INTO "images" VALUES('fc669b971f834f8ea62683b651ae846f','8cd48b5b9bab41b095110b1d4f9377d9',0,NULL,0);
INSERT INTO "images" VALUES('9480f1983d4841d587868a5d049d628d','8cd48b5b9bab41b095110b1d4f9377d9',1,NULL,0);
INSERT INTO "images" VALUES('acc5850f45bd453bbfd308a7f0c0de09','8cd48b5b9bab41b095110b1d4f9377d9',2,NULL,0);
INSERT INTO "images" VALUES('9bf8b1a9ad1643898deb9d43130e5869','a118c8d80cc244f3adf842ccade8a9b2',0,NULL,0);
INSERT INTO "images" VALUES('acfed22b4a494e809917729a1d2c56eb','a118c8d80cc244f3adf842ccade8a9b2',1,NULL,0);
INSERT INTO "images" VALUES('357cbf26041b4949af4cf009212358b4','a118c8d80cc244f3adf842ccade8a9b2',2,NULL,0);
CREATE TABLE jobs (
	id VARCHAR(32) NOT NULL, 
	concept_id VARCHAR(32) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	batch VARCHAR(64), 
	base TEXT NOT NULL, 
	fingerprint VARCHAR(128) NOT NULL, 
	recipe JSON NOT NULL, 
	columns JSON, 
	state VARCHAR(12) NOT NULL, 
	nice INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	worker VARCHAR(128), 
	lease_until DATETIME, 
	step INTEGER NOT NULL, 
	steps INTEGER NOT NULL, 
	loss DOUBLE, 
	losses JSON NOT NULL, 
	error TEXT, 
	created DATETIME NOT NULL, 
	started DATETIME, 
	ended DATETIME, 
	result_id VARCHAR(32), 
	PRIMARY KEY (id), 
	FOREIGN KEY(concept_id) REFERENCES concepts (id) ON DELETE CASCADE
);
INSERT INTO "jobs" VALUES('e359138b5505434eaaa820bedafc1e77','a118c8d80cc244f3adf842ccade8a9b2','',NULL,'tiny','ef1e2d9cd6b14967','{"adapter": "oft", "rank": 1, "budget": null, "options": {}, "sites": ["cross_attention_kv"], "steps": 2, "batch": 2, "accumulation": 2, "seed": 0, "threads": 1, "unet_rate": 0.001, "text_rate": 0.0001, "token_rate": 0.001, "optimizer": "adamw", "weight_decay": 0.01, "schedule": "cosine_restarts", "restarts": 1, "warmup": 1, "clip": 0.5, "precision": "float32", "gradient_checkpointing": false, "low_memory": false, "ema": 0.5, "min_snr": 5.0, "noise_offset": 0.0, "prior_share": 0.5, "silence": 10.0, "strangers": 0.25, "prior_pictures": 2, "prior_seed": 0, "masked": false, "outside": 0.1, "flip": true, "crops": 0, "buckets": 1, "captions": "templates", "templates": ["a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "a rendering of {}", "{}"], "shuffle_captions": true, "train_token": true, "token_vectors": 2, "layerwise_token": false, "freeze_token_after": null, "preview_every": 1, "preview_prompt": "a drawing of {}", "previews": 1, "patience": 5, "keep_best": false}',NULL,'queued',0,0,3,NULL,NULL,0,2,NULL,'[]',NULL,'2026-11-30 09:13:51.720561',NULL,NULL,NULL);
CREATE TABLE leftovers (
	id VARCHAR(32) NOT NULL, 
	place VARCHAR(80) NOT NULL, 
	since DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (place)
);
CREATE TABLE results (
	id VARCHAR(32) NOT NULL, 
	concept_id VARCHAR(32) NOT NULL, 
	base VARCHAR(128) NOT NULL, 
	adapter VARCHAR(40) NOT NULL, 
	rank INTEGER NOT NULL, 
	parameters INTEGER NOT NULL, 
	scores JSON NOT NULL, 
	details JSON NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (concept_id), 
	FOREIGN KEY(concept_id) REFERENCES concepts (id) ON DELETE CASCADE
);
INSERT INTO "results" VALUES('13c2802630794fc398dbc82d4ac26e54','8cd48b5b9bab41b095110b1d4f9377d9','ef1e2d9cd6b14967','lora',1,512,'{"backbone": "toybox-clip", "image_alignment": 0.16241575218737125, "text_alignment": -0.3035472184419632}','{"recipe": {"adapter": "lora", "rank": 1, "budget": null, "options": {}, "sites": ["cross_attention_kv"], "steps": 2, "batch": 2, "accumulation": 2, "seed": 0, "threads": 1, "unet_rate": 0.001, "text_rate": 0.0001, "token_rate": 0.001, "optimizer": "adamw", "weight_decay": 0.01, "schedule": "cosine_restarts", "restarts": 1, "warmup": 1, "clip": 0.5, "precision": "float32", "gradient_checkpointing": false, "low_memory": false, "ema": 0.5, "min_snr": 5.0, "noise_offset": 0.0, "prior_share": 0.5, "silence": 10.0, "strangers": 0.25, "prior_pictures": 2, "prior_seed": 0, "masked": false, "outside": 0.1, "flip": true, "crops": 0, "buckets": 1, "captions": "templates", "templates": ["a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "a rendering of {}", "{}"], "shuffle_captions": true, "train_token": true, "token_vectors": 2, "layerwise_token": false, "freeze_token_after": null, "preview_every": 1, "preview_prompt": "a drawing of {}", "previews": 1, "patience": 5, "keep_best": false}, "losses": [0.05937077850103378, 0.0014393040910363197], "rates": {"unet": [0.001, 0.0005], "token": [0.001, 0.0005]}, "alignments": [[1, 0.07629480957984924], [2, 0.08465059846639633]], "seconds": 0.2778967559988814, "pictures_per_second": 28.78766961940427, "peak_bytes": 1119236096, "trained": 576, "changed": 8192}','2026-11-30 09:13:51.641006');
CREATE UNIQUE INDEX ix_jobs_unfinished ON jobs (concept_id) WHERE state IN ('queued', 'running');
CREATE INDEX ix_jobs_queued ON jobs (nice, created, id) WHERE state = 'queued';
CREATE INDEX ix_jobs_running ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX ix_jobs_newest ON jobs (created, id);
CREATE INDEX ix_jobs_concept ON jobs (concept_id);
CREATE INDEX ix_jobs_batch ON jobs (batch);
CREATE INDEX ix_concepts_page ON concepts (created, id) WHERE removed IS NULL;
CREATE INDEX ix_concepts_owner ON concepts (owner, created, id) WHERE removed IS NULL;
CREATE INDEX ix_concepts_removed ON concepts (removed) WHERE removed IS NOT NULL;
CREATE INDEX ix_columns_block ON columns (base, space, start, width);
CREATE INDEX ix_leftovers_since ON leftovers (since);
COMMIT;
