// The slider over ratios, and what is left of the model there.

class Slider {
  constructor(page) {
    this.page = page;
    this.range = document.getElementById('ratio');
    this.button = document.getElementById('planned');
    const { ratios, planned } = page.data;
    this.range.max = ratios.length - 1;
    this.range.disabled = ratios.length < 2;
    this.button.hidden = !planned || this.range.disabled;
    for (const each of [...this.range.labels, this.range, document.getElementById('stop')]) {
      each.hidden = this.range.disabled;
    }
    this.range.addEventListener('input', () => page.plan(Number(this.range.value)));
    this.button.addEventListener('click', () => page.plan(ratios.length));
  }

  /** One ratio up or down. */
  step(by) {
    const to = Number(this.range.value) + by;
    if (to >= 0 && to <= Number(this.range.max)) {
      this.page.plan(to);
    }
  }

  show() {
    const { data, stop } = this.page;
    const isPlan = stop === data.ratios.length;
    if (!isPlan) {
      this.range.value = stop;
    }
    this.button.setAttribute('aria-pressed', String(isPlan));
    document.getElementById('slider').classList.toggle('planned', isPlan);
    const ratio = isPlan ? '' : data.ratios[stop].toFixed(2);
    document.getElementById('stop').textContent = ratio;
    document.getElementById('call').textContent = this.call(isPlan, ratio);
    this.range.setAttribute('aria-valuetext', isPlan ? 'the plan' : ratio);
    document.getElementById('cost').textContent = [this.cost(0, 'parameters'), this.cost(1, 'MACs')].join(', ');
  }

  /** What gives these widths. */
  call(isPlan, ratio) {
    const { data } = this.page;
    if (data.whyNot) {
      return `${isPlan ? 'the widths of the plan; ' : ''}no slider over ratios: ${data.whyNot}`;
    }
    const drop = data.dropped.length ? `, drop=[${data.dropped.map((name) => JSON.stringify(name)).join(', ')}]` : '';
    const criterion = data.criterion === 'l2' ? '' : `, criterion="${data.criterion}"`;
    return isPlan ? 'the widths of the plan' : `fxprune.plan(model, x, ratio=${Number(ratio)}${criterion}${drop})`;
  }

  cost(which, name) {
    const { data, stop } = this.page;
    const [before, after] = [data.before[which], data.after[which][stop]];
    const share = before && after !== before ? ` (${percent(after, before)})` : '';
    return `${change(count(before), count(after), after !== before)} ${name}${share}`;
  }
}
