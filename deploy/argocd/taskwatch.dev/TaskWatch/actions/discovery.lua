-- A finished TaskWatch has nothing to suspend, but may be refreshed: it is polled once more. A suspended one is not polled.
local suspended = obj.spec.suspend == true
local finished = false
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    if condition.type == "Finished" and condition.status == "True" then
      finished = true
    end
  end
end
return {
  refresh = { disabled = suspended },
  suspend = { disabled = suspended or finished },
  resume = { disabled = not suspended },
}
