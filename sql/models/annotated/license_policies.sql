-- The policy as the lake knows it: a versioned copy of the seed, so that a build names what it used.
select spdx_id, tier, source
from {{ ref('license_policy') }}
