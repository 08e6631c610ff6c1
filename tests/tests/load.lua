-- For wrk: each request has a name of its own, WHO-N, and progress is told.
local who, asked, answered = "?", 0, 0

function init(args)
    who = args[1]
end

function request()
    asked = asked + 1
    return wrk.format(nil, "/?id=" .. who .. "-" .. asked)
end

function delay()
    return 2
end

function response(status)
    if status == 200 then
        answered = answered + 1
        if answered % 20 == 0 then
            io.write("answered ", answered, "\n")
            io.flush()
        end
    end
end

function done(summary)
    io.write("in all ", summary.requests - summary.errors.status, "\n")
end
