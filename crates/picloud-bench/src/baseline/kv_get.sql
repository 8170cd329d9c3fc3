select value from kv
where app_id = $1 and collection = $2 and key = $3
  and (expires_at is null or expires_at > statement_timestamp())
