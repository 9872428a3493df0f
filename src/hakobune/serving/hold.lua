-- Holds a request until the controller answers on its socket. A controller that restarts is waited for.

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
  local question = table.concat({
    txn:get_var("txn.word"), txn:get_var("txn.revision"), tostring(txn:get_var("txn.attempt") or 0)
  }, " ") .. "\n"
  local answer = ask(question)
  while answer == nil and core.now().sec - began < PATIENCE_S do
    core.msleep(50)
    answer = ask(question)
  end
  local verdict, words = string.match(answer or "503 the controller does not answer", "^(%S+) ?(.*)$")
  txn:set_var("txn.verdict", verdict)
  txn:set_var("txn.words", words)
  -- The request's timeout counts from its receipt.
  local left = (txn:get_var("txn.timeout") or 300000) - (core.now().sec - began) * 1000
  txn:set_var("txn.timeout", math.max(math.floor(left), 1))
end)
