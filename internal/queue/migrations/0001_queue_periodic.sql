-- +goose Up
-- When each periodic job was last enqueued, as the number of its period since
-- 1970: the row makes it happen once in the whole cluster.
CREATE TABLE queue_periodic (
  id     key_text NOT NULL PRIMARY KEY,
  period BIGINT NOT NULL
);

-- +goose Down
DROP TABLE queue_periodic;
