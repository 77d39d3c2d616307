-- Every request differs, as those of many users do: its path, and one of its nine headers.
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/api/v1/r" .. (n % 1000) .. "/items/" .. n, {
    ["Host"] = "shop.example:8080",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0",
    ["Accept"] = "application/json",
    ["Accept-Language"] = "en-US,en;q=0.9",
    ["Accept-Encoding"] = "gzip, deflate, br",
    ["Referer"] = "https://shop.example/items",
    ["Cookie"] = "session=abcdef0123456789; theme=dark",
    ["Cache-Control"] = "no-cache",
    ["X-Unique"] = tostring(n),
  })
end
