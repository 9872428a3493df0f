-- Holds a request until the controller answers on its socket. A controller that restarts is waited for.

local slots = Map.new("SLOTS_MAP", Map._str)

local function ask(question)
  local socket = core.tcp()
  socket:settimeout(PATIENCE_S)
  if socket:connect("unix@HOLD_SOCKET") == nil then return nil end
  socket:send(question)
  local answer = socket:receive("*l")
  socket:close()
  return answer
end

core.register_action("hold", {"http-req"}, function(txn)
  local began = core.now().sec
  local revision = txn:get_var("txn.revision")
  local question = table.concat({
    txn:get_var("txn.word"), revision, tostring(txn:get_var("txn.attempt") or 0)
  }, " ") .. "\n"
  local answer = ask(question)
  -- What was usable when the controller said go may have ended since: it knows better by now.
  while (answer == nil or (answer == "go" and slots:lookup(revision) == nil))
    and core.now().sec - began < PATIENCE_S do
    core.msleep(answer and 5 or 50)
    answer = ask(question)
  end
  local verdict, words = string.match(answer or "503 the controller does not answer", "^(%S+) ?(.*)$")
  txn:set_var("txn.verdict", verdict)
  txn:set_var("txn.words", words)
  -- The request's timeout counts from its receipt.
  local left = (txn:get_var("txn.timeout") or 300000) - (core.now().sec - began) * 1000
  txn:set_var("txn.timeout", math.max(math.floor(left), 1))
end)
