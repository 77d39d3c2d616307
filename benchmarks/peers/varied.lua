-- Every request differs, as those of many users do: its path, and one of its nine headers.
-- Arguments: the number of routes; "no-store" if the upstream's answers are to differ as well,
-- else "no-cache"; a file of bearer tokens to take turns with, one a line.
local n, routes, cache, tokens = 0, 1000, "no-cache", {}

function init(args)
  routes = tonumber(args[1])
  cache = args[2]
  if args[3] then
    for token in io.lines(args[3]) do tokens[#tokens + 1] = "Bearer " .. token end
  end
end

function request()
  n = n + 1
  return wrk.format("GET", "/api/v1/r" .. (n % routes) .. "/items/" .. n, {
    ["Host"] = "shop.example:8080",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0",
    ["Accept"] = "application/json",
    ["Accept-Language"] = "en-US,en;q=0.9",
    ["Accept-Encoding"] = "gzip, deflate, br",
    ["Referer"] = "https://shop.example/items",
    ["Cookie"] = "session=abcdef0123456789; theme=dark",
    ["Cache-Control"] = cache,
    ["X-Unique"] = tostring(n),
    ["Authorization"] = #tokens > 0 and tokens[n % #tokens + 1] or nil,
  })
end
