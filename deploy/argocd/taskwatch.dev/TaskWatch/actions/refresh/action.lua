-- Has the task polled now; the value only has to change.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["taskwatch.dev/requestedAt"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
