-- A plain dbt model that knows nothing of Headwater.
{{ config(materialized='table') }}
select source, count(*) as documents from {{ source('corpus', 'documents') }} group by 1
