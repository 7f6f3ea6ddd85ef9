CREATE TABLE public.app (
    name character varying(128) NOT NULL,
    broker_id bigint,
    celery_app text,
    pool text,
    arguments text,
    extra_config text,
    version_stamp bigint DEFAULT '0'::bigint NOT NULL,
    version_branch character varying(128) DEFAULT ''::character varying NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);
CREATE TABLE public.broker (
    id bigint NOT NULL,
    url text NOT NULL,
    digest character varying(64)
);
CREATE SEQUENCE public.broker_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.broker_id_seq OWNED BY public.broker.id;
CREATE TABLE public.cyme_meta (
    name character varying(64) NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.event (
    id bigint NOT NULL,
    at double precision NOT NULL,
    branch character varying(128) NOT NULL,
    app character varying(128),
    instance character varying(128),
    kind character varying(64) NOT NULL,
    who character varying(64) NOT NULL,
    details text NOT NULL
);
CREATE SEQUENCE public.event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.event_id_seq OWNED BY public.event.id;
CREATE TABLE public.instance (
    name character varying(128) NOT NULL,
    app character varying(128) NOT NULL,
    branch character varying(128) NOT NULL,
    broker_id bigint,
    is_enabled boolean DEFAULT true NOT NULL,
    queues text,
    max_concurrency integer DEFAULT 1 NOT NULL,
    min_concurrency integer DEFAULT 1 NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    created_at double precision DEFAULT '0'::double precision NOT NULL,
    celery_app text,
    pool text,
    arguments text,
    extra_config text,
    version_stamp bigint DEFAULT '0'::bigint NOT NULL,
    version_branch character varying(128) DEFAULT ''::character varying NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);
CREATE TABLE public.queue (
    app character varying(128) NOT NULL,
    name character varying(255) NOT NULL,
    exchange text,
    exchange_type text,
    routing_key text,
    options text,
    version_stamp bigint DEFAULT '0'::bigint NOT NULL,
    version_branch character varying(128) DEFAULT ''::character varying NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);
ALTER TABLE ONLY public.broker ALTER COLUMN id SET DEFAULT nextval('public.broker_id_seq'::regclass);
ALTER TABLE ONLY public.event ALTER COLUMN id SET DEFAULT nextval('public.event_id_seq'::regclass);
INSERT INTO public.app VALUES ('foo', 1, 'proj.celery:app', 'threads', '--a ''b c''', 'x=1', 7696581394432, 'b1', false);
INSERT INTO public.broker VALUES (1, 'amqp://me:s%20cret@broker:5672//', '09d3b214bfd23c27181414f710212940e5265d17419154ac07b799022ef5a326');
INSERT INTO public.broker VALUES (2, 'redis://r/1', 'ab8f2e9a860120c3a351f8f4b4e3a02c50f197892765f53fa877867267167fd4');
INSERT INTO public.cyme_meta VALUES ('schema', '2');
INSERT INTO public.event VALUES (1, 1, 'b1', 'foo', 'w1', 'started', 'supervisor', '{"pid": 7}');
INSERT INTO public.instance VALUES ('w1', 'foo', 'b1', 2, false, '["tâches, 1", "b"]', 4, 0, 3, 1234567.25, NULL, 'solo', '-x', NULL, 9, 'b2', false);
INSERT INTO public.instance VALUES ('w2', 'foo', 'b1', NULL, true, '[]', 1, 1, 0, 0, NULL, NULL, NULL, NULL, 10, 'b1', true);
INSERT INTO public.queue VALUES ('foo', 'tâches, 1', 'e', 'topic', 'r.#', '{"durable": true}', 8, 'b1', false);
SELECT pg_catalog.setval('public.broker_id_seq', 2, true);
SELECT pg_catalog.setval('public.event_id_seq', 1, true);
ALTER TABLE ONLY public.app
    ADD CONSTRAINT app_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.broker
    ADD CONSTRAINT broker_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.broker
    ADD CONSTRAINT broker_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.cyme_meta
    ADD CONSTRAINT cyme_meta_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (app, name);
CREATE INDEX ix_app_broker_id ON public.app USING btree (broker_id);
CREATE INDEX ix_event_instance ON public.event USING btree (instance);
CREATE INDEX ix_instance_app ON public.instance USING btree (app);
CREATE INDEX ix_instance_broker_id ON public.instance USING btree (broker_id);
ALTER TABLE ONLY public.app
    ADD CONSTRAINT app_broker_id_fkey FOREIGN KEY (broker_id) REFERENCES public.broker(id);
ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_broker_id_fkey FOREIGN KEY (broker_id) REFERENCES public.broker(id);
