% Writes cfnet.mat: functions of the CFNet code (bertinetto/cfnet, folder src/util) on random inputs.
% In its folder:
%   octave-cli --path CFNET/src/util --path MATCONVNET/matlab make_cfnet.m

1;

function v = gather(v)
end

function out = add(out, name, func, opts, fields)
  for field = fieldnames(fields)'
    v = fields.(field{1});
    out.(sprintf('%s__%s', name, field{1})) = v;
    entry.([field{1} '_size']) = [size(v, 1), size(v, 2), size(v, 3), size(v, 4)];
    entry.([field{1} '_class']) = class(v);
  end
  entry.name = name;
  entry.func = func;
  entry.note = '';
  entry.opts = opts;
  entry.fields = fieldnames(fields)';
  out.meta_json{end + 1} = jsonencode(entry);
end

randn('state', 20170717); rand('state', 20170717);
out.meta_json = {};
classes = {@single, @double};
precisions = {'s', 'd'};

% H, W, channels, samples, lambda
filters = [7 7 1 1 1e-3; 6 6 3 2 10; 5 8 4 3 1e-3; 9 4 2 2 0.5; 1 6 3 1 0.1; 7 1 2 2 0.1; ...
           17 17 4 2 10; 24 24 2 1 10];
for p = 1:2
  cast = classes{p};
  for i = 1:size(filters, 1)
    sz = filters(i, 1:4);
    lambda = filters(i, 5);
    f.x = cast(randn(sz));
    f.y = cast(gaussian_response(sz(1:2), 1 + rand()) + 0.1 * randn(sz(1:2)));
    f.dzdw = cast(randn(sz));
    f.w = corr_filter(f.x, f.y, [], 'lambda', lambda);
    [f.dx, f.dy] = corr_filter(f.x, f.y, f.dzdw, 'lambda', lambda);
    out = add(out, sprintf('filter%d%s', i, precisions{p}), 'corr_filter', ...
              struct('lambda', lambda), f);

    g.x = cast(randn(sz));
    g.h = cast(randn(sz(1:2)));
    g.dzdy = cast(randn(sz));
    g.y = mul_const(g.x, g.h);
    [g.dx, g.dh] = mul_const(g.x, g.h, g.dzdy);
    out = add(out, sprintf('mul%d%s', i, precisions{p}), 'mul_const', struct(), g);
  end

  losses = [5 5 1; 17 17 3; 7 4 2];
  for i = 1:size(losses, 1)
    sz = [losses(i, 1:2), 1, losses(i, 3)];
    h.x = cast(4 * randn(sz));
    h.c = cast(sign(randn(sz)));
    h.weights = cast(rand(sz));
    h.dzdy = cast(randn());
    h.y = logistic_loss(h.x, h.c, h.weights, []);
    h.dx = logistic_loss(h.x, h.c, h.weights, h.dzdy);
    out = add(out, sprintf('loss%d%s', i, precisions{p}), 'logistic_loss', struct(), h);
  end

  boxes = [5 5 1 4; 17 17 6 4; 7 9 3 2];
  for i = 1:size(boxes, 1)
    n = boxes(i, 3);
    k.x = cast(randn([boxes(i, 1:2), 1, n]));
    k.label = cast(sign(rand(1, n) - 0.2));
    k.reference = cast(20 + 60 * rand(2, n));
    k.predicted = cast(20 + 60 * rand(2, n));
    k.e = iou_error(k.x, k.label, k.reference, k.predicted, boxes(i, 4));
    out = add(out, sprintf('iou%d%s', i, precisions{p}), 'iou_error', ...
              struct('stride', boxes(i, 4)), k);
  end
end

for sz = [1 2 3 4 4 5 30 49; 1 5 3 7 4 8 30 49]
  r.y = gaussian_response(sz', 2);
  out = add(out, sprintf('response_%d_%d', sz), 'gaussian_response', ...
            struct('size', sz', 'sigma', 2), r);
end

out.meta_json = ['[' strjoin(out.meta_json, ',') ']'];
save('-v7', 'cfnet.mat', '-struct', 'out');
