-- The health of a TaskWatch, TaskWatchSet, TaskConnection or ClusterTaskConnection, by its conditions (docs/status.md).
-- Argo CD opens no string library and no math for it, and of os only time and date, which have to be required.
local os = require("os")

-- What may pass by itself, as an upstream that does not answer, counts as Degraded after so many seconds; the operator's own
-- spec.poll.staleAfterSeconds has the same default.
local patience = 600

-- The time so many seconds ago, as Kubernetes writes times: these compare as strings. By way of the local time zone, since
-- os.date("!...", time) ignores its "!".
local function ago(seconds)
  local now = os.time()
  local ahead = now - os.time(os.date("!*t"))
  return os.date("%Y-%m-%dT%H:%M:%SZ", now - seconds - ahead)
end

local function waiting()
  return { status = "Progressing", message = "Waiting for the operator to look at it." }
end

local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return waiting()
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready = conditions.Ready
if ready == nil then
  return waiting()
end

if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return { status = "Degraded", message = ready.message }
end
if ready.status == "True" then
  return { status = "Healthy", message = ready.message }
end
if ready.reason == "Suspended" or ready.reason == "TaskPaused" then
  return { status = "Suspended", message = ready.message }
end
if ready.status == "False" and ready.lastTransitionTime < ago(patience) then
  return { status = "Degraded", message = ready.message }
end
return { status = "Progressing", message = ready.message }
