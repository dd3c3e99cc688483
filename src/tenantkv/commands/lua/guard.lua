-- The guard in front of every script: the parts from which script_guard.py assembles a script's own prelude.
-- It takes only the parts that the script's text needs, drops comments and line ends, and fills in @WORDS@.
--
-- KEYS[1..]     wire names; the guard strips them, so the script sees its own names
-- ARGV[1..n-2]  the script's own arguments
-- ARGV[n-1]     wire prefix of key names, bytes; taken off
-- ARGV[n]       prefix of channels, bytes; taken off
-- returns       whatever the script returns
--
-- Names, short because every script carries them: R the server's own table, P and Q the prefixes of keys and
-- channels, E true for call (which raises) and false for pcall, c the command as written, k its first argument,
-- a and n the whole command and its length, C the command in upper case, r the reply, x a refusal, t the shape
-- of the reply. Lua 5.1 only, no globals, no line end. A position p of the command table is a[p + 1].

--@section open
local @NAMES@=(function(R,K,A)
local n=#A
local P,Q=A[n-1],A[n]
A[n],A[n-1]=nil,nil

--@section keys
local l=#P+1
for i=1,#K do K[i]=K[i]:sub(l) end

--@section put
-- Prefix the arguments from i to j (or i alone), every s-th. Numbers become the text that the server would
-- make of them, which ECHO knows for fractions: versions differ.
local function put(a,i,j,s)
  for q=i,j or i,s or 1 do
    local v=a[q]
    if v then
      if type(v)=='number' then
        v=v%1==0 and v<1e15 and v>-1e15 and ('%.0f'):format(v) or R.call('ECHO',v)
      end
      a[q]=P..v
    end
  end
end

--@section count
-- A count at i with that many names behind it, s apart.
local function count(a,n,i,s)
  local m=tostring(a[i] or '')
  if not m:find('^%d+$') or #m>9 then return 'the number of keys is not a plain decimal number.' end
  local j=i+m*(s or 1)
  if j>n then return 'it announces more keys than follow.' end
  put(a,i+1,j,s)
end

--@section options
-- Options from i on, left to right, never searched for. T lists each with how many arguments it takes and what
-- to do: s prefix, at most once; b, g the patterns of SORT; k two names; x the streams, which end the options.
local function options(a,n,i,T)
  local once
  while i<=n do
    local _,q=T:find(' '..string.upper(a[i])..'=',1,true)
    if not q then return 'it has an unknown option.' end
    local z,f,v=tonumber(T:sub(q+1,q+1)),T:sub(q+2,q+2),a[i+1]
    if i+z>n then return 'its last option lacks an argument.' end
    if f=='s' then
      if once then return 'it has STORE or MATCH twice.' end
      once=true
      put(a,i+1)
    elseif f=='b' and string.find(v,'*',1,true) or f=='g' and v~='#' then put(a,i+1)
    elseif f=='k' then put(a,i+1,i+2)
    elseif f=='x' then
      if i==n or (n-i)%2>0 then return 'its streams and ids do not pair.' end
      put(a,i+1,(n+i)/2)
      return
    end
    i=i+1+z
  end
  return nil,once
end

--@section shape
-- A reply in own names. t: 1 [name, ...]; 2 names; 3 [cursor, names]; 4 streams; 5 anywhere.
local function own(v)
  if type(v)=='string' and v:sub(1,#P)==P then return v:sub(#P+1) end
  return v
end
local function shape(r,t)
  if t==1 then r[1]=own(r[1])
  elseif t==2 then for i=1,#r do r[i]=own(r[i]) end
  elseif t==3 then shape(r[2],2)
  elseif t==4 and not r.map then for i=1,#r do shape(r[i],1) end
  else
    local m,o={},t==4 and r.map or r
    for q,v in pairs(o) do m[own(q)]=t==5 and type(v)=='table' and shape(v,5) or t==5 and own(v) or v end
    return t==4 and {map=m} or m
  end
  return r
end

--@section fail
-- Hand on an error without the prefixes: returned for pcall, raised for call. It is raised by a piece of code
-- that has as many lines in front as the caller has, since the server reports the line of whoever raises;
-- Redis 6 writes it into some texts besides. Redis 7 raises tables and earlier ones strings. A test double
-- (fakeredis) has errors of its own kind, and the failed command, repeated, raises one. Every call on the
-- way here is a tail call, so that the first function found on the stack is the script's.
local m,l=r.err
for i=3,9 do
  local _,w=pcall(error,'',i)
  l=l or w:match(':(%d+): ')
end
l=l or @LINE@
if type(m)=='string' then
  for _,p in ipairs{P,Q} do m=m:gsub((p:gsub('%W','%%%0')),'') end
  m=m:gsub('^(@user_script: )%d+','%1'..l)
  r.err=m
end
if not E then return r end
if type(m)~='string' then return R.call(unpack(a,1,n)) end
loadstring(('\n'):rep(l-1)..'local e,x=... e(x,0)','@user_script')(error,R.REDIS_VERSION and r or m)

--@section slow
-- Any command: find its names, prefix them, send it, give the reply in own names. Or, given a reply r that
-- is an error already, only hand that on. Its helpers are made in here, so that a run that takes the short
-- way does not pay for them.
local X=R.pcall
local function slow(E,r,c,k,...)
  local a,n={c,k,...},select('#',...)+2
  -- Whether k is absent or nil cannot be told: nil is taken for a mistake, except where nothing is in order.
  local u=n==2 and k==nil
  if u then n=c==nil and 0 or 1 end
  local C,x,t=not r and n>0
  for i=1,n do
    local y=type(a[i])
    -- The server refuses the whole command over such an argument; let it say so.
    if y~='string' and y~='number' then C=nil end
  end
  @HELPERS@
  if C then
    C=string.upper(c)
    @CONTAINERS@
    @GROUPS@
  end
  if x then r={err='ERR '..C:sub(1,40)..' refused in a script: '..x}
  elseif not r then r=X(unpack(a,1,u and C and 2 or n)) end
  if type(r)=='table' then
    if r.err then @FAIL@ end
    @SHAPED@
  end
  return r
end

--@section call
-- The way of nearly all commands: one name, right behind the command.
function(c,k,...)
  @FAST@
  return slow(@RAISES@,nil,c,k,...)
end

--@section fast
if type(k)=='string' and (@WORDS@) then
  local r=X(c,P..k,...)
  if type(r)=='table' and r.err then return slow(@RAISES@,r,c,P..k,...) end
  return r
end

--@section both
local function make(E)
  return @FUNCTION@
end

--@section table
-- Everything else of the server's table (log, sha1hex, setresp ...) is reached through it.
local T=setmetatable({call=@CALL@,pcall=@PCALL@},{__index=R,__metatable=false})

--@section small
-- For scripts that use redis.call, redis.pcall and nothing else of it.
local T={@FIELDS@}

--@section close
return @RETURNED@
end)(@GIVEN@);

--@section _G
-- A copy in which redis is the guarded one; what is not in it is looked up, and refused, as before.
local _G=(function(G,T)
local g={}
for k,v in pairs(G) do g[k]=v end
g._G,g.redis=g,T
if g.server then g.server=T end
return setmetatable(g,{__index=G,__newindex=G})
end)(_G,redis);

--@section loadstring
-- Code made at run time gets the guarded table as well; it stays on its lines.
local loadstring=(function(L,T)
return function(s,n)
  local f,e=L('local redis,server=... return function(...) '..s..'\nend',n or s)
  if f then f=f(T,T) end
  return f,e
end
end)(loadstring,redis);

--@section load
local load=(function(O,L,T)
return function(f,n)
  if type(f)~='function' then return O(f,n) end
  local s,p='',f()
  while p and p~='' do s=s..p p=f() end
  local g,e=L('local redis,server=... return function(...) '..s..'\nend',n or '=(load)')
  if g then g=g(T,T) end
  return g,e
end
end)(load,loadstring,redis);

--@section getfenv
local function getfenv() error('getfenv refused in a script: it would give the unguarded redis table.',2) end
