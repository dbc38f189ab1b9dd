-- For wrk: each request is that of another client. CLIENTS names a file with one client in each line: the value of its
-- certificate field, a tab, and its token. ORDER is "random", or "once": no client comes twice.
local clients = {}
for line in io.lines(os.getenv("CLIENTS")) do
  local certificate, token = line:match("^([^\t]*)\t(.*)$")
  clients[#clients + 1] = {
    ["X-SSL-Client-Cert"] = certificate, ["X-SSL-Client-Verify"] = "SUCCESS", ["Authorization"] = "Bearer " .. token,
  }
end
math.randomseed(os.time())
local next = 0
local once = os.getenv("ORDER") == "once"

function request()
  next = next + 1
  if once and next > #clients then
    error("more requests than clients")
  end
  return wrk.format("GET", nil, clients[once and next or math.random(#clients)])
end
